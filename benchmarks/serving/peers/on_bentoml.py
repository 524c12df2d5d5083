"""BentoML: a service of one worker whose endpoint takes the protocol's JSON."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import onnxruntime

DTYPES = {"FP32": np.float32, "INT64": np.int64}


@bentoml.service(workers=1, traffic={"timeout": 60, "concurrency": None}, logging={"access": {"enabled": False}})
class Reference:
    """One session on one thread."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = os.environ["SERVED_MODEL"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.names = [one.name for one in self.session.get_outputs()]

    @bentoml.api(route="/infer")
    def infer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """The protocol's tensors in and out."""
        arrays = {one["name"]: np.array(one["data"], DTYPES[one["datatype"]]).reshape(one["shape"]) for one in inputs}
        told = [
            {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in zip(self.names, self.session.run(None, arrays), strict=True)
        ]
        return {"model_name": "reference", "outputs": told}


if __name__ == "__main__":
    command = [Path(sys.executable).with_name("bentoml"), "serve", "on_bentoml:Reference"]
    command += ["--port", sys.argv[2], "--host", "127.0.0.1", "--working-dir", Path(__file__).parent]
    settings = {**os.environ, "SERVED_MODEL": sys.argv[1], "BENTOML_DO_NOT_TRACK": "True"}
    sys.exit(subprocess.run(list(map(str, command)), env=settings).returncode)
