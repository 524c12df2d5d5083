"""KServe's Python SDK: a Model behind its ModelServer, Open Inference Protocol."""

import sys
from uuid import uuid4

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Reference(Model):
    """One session on one thread."""

    def __init__(self, name, path):
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        """All inputs in, all outputs out."""
        arrays = {one.name: one.as_numpy() for one in payload.inputs}
        outputs = []
        for told, array in zip(self.session.get_outputs(), self.session.run(None, arrays), strict=True):
            output = InferOutput(told.name, list(array.shape), "FP32")
            output.set_data_from_numpy(array, binary_data=False)
            outputs.append(output)
        return InferResponse(payload.id or str(uuid4()), self.name, outputs)


if __name__ == "__main__":
    model, port = sys.argv[1], int(sys.argv[2])
    sys.argv[1:] = []
    server = ModelServer(http_port=port, enable_grpc=False, workers=1, access_log_format=None)
    server.start([Reference("reference", model)])
