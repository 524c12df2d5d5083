"""The experiment: what params.yaml may say. Each field's docstring carries its unit."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ci_tools.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]


class Simulated(Config):
    """Card transactions made up from customers, terminals and three fraud mechanisms."""

    transactions: Annotated[int, Field(ge=1000, le=50_000_000)] = 300_000
    """Number of transactions to draw, in rows."""
    customers: Count = 5_000
    """Number of card holders."""
    terminals: Count = 2_000
    """Number of payment terminals."""
    days: Annotated[int, Field(ge=60)] = 180
    """Length of the simulated period, in days."""
    fraud_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.015
    """Target share of fraudulent transactions over the whole period."""
    label_delay_days: Annotated[int, Field(ge=0)] = 7
    """Days until a fraud is known; rolling fraud counts look back only beyond it."""
    seed: int = 0
    """Seed of the simulation; independent of the training seeds."""


class Table(Config):
    """Any CSV or Parquet file with one row per event."""

    path: str = ""
    """CSV or Parquet file; empty unless `data.source` is `table`."""
    label: str = "label"
    """Column to predict; it must hold exactly two values."""
    positive: str = ""
    """Label value that counts as 1; empty takes the rarer of the two."""
    time: str = ""
    """Column to split by, as ISO dates or numbers; empty splits by a hash of the row."""
    numeric: tuple[str, ...] = ()
    """Columns to treat as numbers whatever their values look like."""
    categorical: tuple[str, ...] = ()
    """Columns to treat as categories whatever their values look like."""
    exclude: tuple[str, ...] = ()
    """Columns to leave out, identifiers for instance."""
    missing: tuple[str, ...] = ("", "?", "NA", "N/A", "NaN", "nan", "null", "None")
    """Spellings that count as a missing value."""


class OpenML(Config):
    """A data set of openml.org; needs the network once, then the cache answers."""

    name: str = "creditcard"
    """Data set name; the default is the ULB credit-card fraud set."""
    version: Count = 1
    """Data set version."""
    label: str = "Class"
    """Column to predict."""
    time: str = "Time"
    """Column to split by, in seconds; empty splits by a hash of the row."""
    server: str = "https://www.openml.org"
    """Address of the OpenML server."""
    timeout_seconds: Positive = 60.0
    """Limit for one request, in seconds."""


class Split(Config):
    """Train, validation and test, in time order where there is time."""

    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of rows for validation."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of rows for test."""
    gap_days: Annotated[float, Field(ge=0)] = 7.0
    """Rows dropped before validation and before test, in days of the time column (or its own unit if numeric)."""
    hash_salt: str = "switchback"
    """Salt of the row hash that splits data without time."""

    @model_validator(mode="after")
    def _leaves_rows_to_train(self) -> "Split":
        if self.validation + self.test > 0.9:
            raise ValueError(f"validation + test must leave 0.1 for training, got {self.validation + self.test:.2f}")
        return self


class Data(Config):
    """Where rows come from and how they are split."""

    source: Literal["simulated", "table", "openml"] = "simulated"
    """One of the three sources below."""
    simulated: Simulated = Simulated()
    table: Table = Table()
    openml: OpenML = OpenML()
    split: Split = Split()
    slices: tuple[str, ...] = ()
    """Categorical columns to report per slice; empty takes up to three with the fewest categories."""
    max_categories: Annotated[int, Field(ge=2)] = 1_000
    """Categories kept per column, the most frequent first; the rest count as unseen."""


class Network(Config):
    """Residual MLP with categorical embeddings, layer norm and dropout."""

    width: Count = 128
    """Units of the residual stream."""
    blocks: Count = 3
    """Number of residual blocks."""
    expansion: Positive = 2.0
    """Hidden units of a block over `width`."""
    embedding: Count = 8
    """Dimensions per categorical column."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of activations dropped in training."""


class Train(Config):
    """The optimisation."""

    steps: Count = 400
    """Length of training, in optimizer steps."""
    batch_size: Annotated[int, Field(ge=2)] = 2_048
    """Samples per optimizer step."""
    accumulate: Count = 1
    """Micro-batches per optimizer step; `batch_size` is split over them."""
    optimizer: Literal["sgd", "momentum", "rmsprop", "adam", "adamw"] = "adamw"
    """Update rule; `momentum` is SGD with Nesterov momentum."""
    lr: Positive = 6e-3
    """Peak learning rate."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of `momentum` and `rmsprop`."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of the first and second moment of Adam and AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """L2 penalty (decoupled for AdamW)."""
    l1: Annotated[float, Field(ge=0)] = 0.0
    """L1 penalty on all weight matrices, added to the loss."""
    schedule: Literal["constant", "step", "cosine", "plateau"] = "cosine"
    """Learning rate over time, after the warm-up."""
    warmup: Steps = 50
    """Length of the linear warm-up, in optimizer steps."""
    step_every: Count = 200
    """Steps between two drops of the `step` schedule."""
    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Factor of one drop of the `step` and `plateau` schedules."""
    plateau_patience: Count = 3
    """Evaluations without improvement before the `plateau` schedule drops."""
    final_lr_share: Share = 0.05
    """Last learning rate of the `cosine` schedule over `lr`."""
    clip_norm: Annotated[float, Field(ge=0)] = 5.0
    """Largest total gradient norm; 0 turns clipping off."""
    positive_weight: Positive = 1.0
    """Weight of positive samples in the loss."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Autocast type; bf16 and fp16 need a GPU."""
    evaluate_every: Count = 50
    """Optimizer steps between two evaluations on validation."""
    early_stopping: Steps = 0
    """Evaluations without improvement before training stops; 0 turns it off."""
    checkpoint_every: Count = 100
    """Optimizer steps between two checkpoints."""
    keep_checkpoints: Count = 3
    """Newest checkpoints kept, besides the best one."""
    probe_every: Count = 100
    """Optimizer steps between two gradient probes."""
    shadow_every: Steps = 200
    """Optimizer steps between two comparisons of the gradient with one in float64; 0 turns them off."""
    max_recoveries: Steps = 1
    """Times that a diverged run may go back to a good checkpoint with half the learning rate."""
    patience: Count = 8
    """Consecutive bad steps (non-finite, or loss above `divergence_factor` times the null loss) that end a run."""
    divergence_factor: Annotated[float, Field(gt=1)] = 20.0
    """Loss over the loss of the constant predictor that counts as diverged, after the warm-up."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; `auto` takes the GPU where there is one."""
    threads: Count = 2
    """CPU threads; part of the fingerprint, since sums depend on it."""

    @model_validator(mode="after")
    def _consistent(self) -> "Train":
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate must divide batch_size {self.batch_size}, got {self.accumulate}")
        if self.warmup >= self.steps:
            raise ValueError(f"warmup must be shorter than steps {self.steps}, got {self.warmup}")
        return self


class Evaluate(Config):
    """What is measured on the test split."""

    precision_floor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Precision at which recall is reported."""
    calibration_bins: Annotated[int, Field(ge=2)] = 15
    """Equal-mass bins of the expected calibration error."""
    simpler_models: bool = True
    """Whether to fit logistic regression and gradient boosting for comparison."""


class Export(Config):
    """The ONNX file and its proof of parity."""

    opset: Annotated[int, Field(ge=18, le=23)] = 20
    """ONNX operator set."""
    score_tolerance: Positive = 1e-5
    """Largest allowed difference of a score between torch and ONNX Runtime."""


class Params(Config):
    """params.yaml, whole."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    """Training seeds, one run record each; the first is the release."""
    data: Data = Data()
    network: Network = Network()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()

    @model_validator(mode="after")
    def _seeds_differ(self) -> "Params":
        twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"seeds must differ, got {', '.join(map(str, twice))} more than once")
        return self
