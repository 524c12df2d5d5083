"""Why nothing was measured: every cause that our gates know, as a code, and in the one sentence that is told of it.

The code crosses from a pull request's job to the one that comments. The sentence does not have to.
"""

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """A cause; its value is the code."""

    sentence: str
    """Begins small and ends without a full stop."""

    def __new__(cls, code: str, sentence: str) -> Self:
        """A code with its sentence."""
        member = str.__new__(cls, code)
        member._value_, member.sentence = code, sentence
        return member

    # The test did not get so far.
    SKIPPED = "skipped", "its test was skipped"
    NO_CASES = "no_cases", "its test has no case, as where gates.yaml names no metric with such a limit"
    NOT_EXPORTED = "not_exported", "no stage of dvc.yaml writes export/model.onnx, so there is nothing to release"

    # There is no base revision to compare with, or not enough of it.
    NO_BASE = "no_base", "no base revision was named (`switchback gate --base main`)"
    NO_PIPELINE = "no_pipeline", "the base revision has no pipeline yet"
    NO_BASE_MODEL = "no_base_model", "the baseline exported no model"
    NO_COMMON_BATCH = "no_common_batch", "the two graphs take no batch size in common"
    NO_COLUMN = "no_column", "there is no column to compare"
    CHANGED_ROWS = "changed_rows", "the test rows changed: under nine in ten were scored by both arms"
    ONE_SEED = "one_seed", "needs two seeds per arm: one alone does not tell how much training varies"

    # No run was made twice from the same inputs.
    SAME_RUN = "same_run", "both sides hold the same run, from the cache; `switchback replay` re-executes parts of it"
    OTHER_SEEDS = "other_seeds", "no run was made twice: the baseline has none of these seeds"
    OTHER_INPUTS = "other_inputs", "no run was made twice: params, code, data or stack differ from the baseline's"
    CUT_SHORT = "cut_short", "no run was made twice: one side did not finish, or was resumed on another stack"

    # Quality.
    NOT_DEMANDED = "not_demanded", "gates.yaml sets no such limit for the metric"
    NOT_FROM_SCORES = "not_from_scores", "the metric cannot be computed from scores"
    ONE_CLASS = "one_class", "the test rows hold one class only"
    SMALL_SLICES = "small_slices", "every slice has too few rows, or too few of the rarer class"
    NO_SIMPLER_MODEL = "no_simpler_model", "evaluation/scores.parquet holds no simpler model"

    # What training left is too little to tell.
    NOTHING = "nothing", "there is nothing to look at"
    NO_CHECKPOINT = "no_checkpoint", "the run did not finish and has no checkpoint"
    NO_LOSSES = "no_losses", "there are too few finite losses to look at"
    NO_GRADIENTS = "no_gradients", "the run is too short, or its gradients or losses are not finite"
    NO_PROGRESS = (
        "no_progress",
        "the loss ended no lower than the null loss, so it made no progress to come to rest from",
    )
    FEW_STEPS = "few_steps", "the run has too few steps"
    FEW_TIMED = "few_timed", "too few ordinary steps were timed"
    FEW_MATRICES = "few_matrices", "fewer than three weight matrices have a gradient, which show no depth"
    FEW_BATCHES = "few_batches", "an epoch has so few batches that halves of one are not independent"
    FEW_PROBES = "few_probes", "fewer than three early probes split their batch"
    NO_BIAS = "no_bias", "no bias was probed"
    NO_MATRIX = "no_matrix", "no weight matrix was probed"
    NO_SHADOW = "no_shadow", "the run took no shadow step; no gradient was broken before"
    DIVERGED_BEFORE = "diverged_before", "the loss diverged before any shadow step; no gradient was broken before"
    NO_REFERENCE = "no_reference", "the reference runs learned nothing, or were not seen as far as this run went"
    FEW_EVALUATIONS = "few_evaluations", "the run evaluated no validation loss, or fewer than three times"
    NO_VALIDATION = "no_validation", "the validation loss is not finite"
    FEW_MARGINS = "few_margins", "the run kept the margins of too few training examples"
    DIVERGED = "diverged", "the run diverged, so its margins say nothing about labels"
    NO_COUNTERPART = "no_counterpart", "neither validation losses nor labels are there to compare the margins with"

    # Data and the exported model.
    FEW_ROWS = "few_rows", "the train or the test split has too few rows to tell"
    NO_PARITY = "no_parity", "export/parity.json compares no rows, or names no tolerance"

    @classmethod
    def of(cls, sentence: str) -> "Reason | None":
        """The cause that is told in this sentence; None where it is none of ours."""
        return next((one for one in cls if one.sentence == sentence), None)
