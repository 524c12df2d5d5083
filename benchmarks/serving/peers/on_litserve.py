"""LitServe: a LitAPI in one worker, batching as its guide shows."""

import sys

import litserve
import numpy as np
import onnxruntime

DTYPES = {"FP32": np.float32, "INT64": np.int64}


class Reference(litserve.LitAPI):
    """One session on one thread."""

    def setup(self, device):
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
        self.names = [one.name for one in self.session.get_outputs()]

    def decode_request(self, request):
        """The protocol's tensors to arrays."""
        return {
            one["name"]: np.array(one["data"], DTYPES[one["datatype"]]).reshape(one["shape"])
            for one in request["inputs"]
        }

    def predict(self, arrays):
        """Run it."""
        return self.session.run(None, arrays)

    def encode_response(self, outputs):
        """Arrays to the protocol's tensors."""
        told = [
            {"name": name, "datatype": "FP32", "shape": array.shape, "data": array.ravel().tolist()}
            for name, array in zip(self.names, outputs, strict=True)
        ]
        return {"model_name": "reference", "outputs": told}


if __name__ == "__main__":
    server = litserve.LitServer(Reference(), accelerator="cpu", devices=1, workers_per_device=1)
    server.run(port=int(sys.argv[2]), host="127.0.0.1", log_level="error", generate_client_file=False)
