"""MLServer: a custom runtime, in the server's process, Open Inference Protocol."""

import asyncio
import socket
import sys

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class Reference(MLModel):
    """One session on one thread."""

    async def load(self) -> bool:
        """Load the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """All inputs in, all outputs out."""
        arrays = {one.name: self.decode(one, default_codec=NumpyCodec) for one in payload.inputs}
        told = zip(self.session.get_outputs(), self.session.run(None, arrays), strict=True)
        outputs = [NumpyCodec.encode_output(one.name, array) for one, array in told]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def free_port() -> int:
    """For what the server opens besides, and nobody asks."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def main() -> None:
    """One model, no parallel workers, REST only as far as it goes."""
    settings = Settings(
        http_port=int(sys.argv[2]), grpc_port=free_port(), metrics_port=free_port(), host="127.0.0.1",
        parallel_workers=0, logging_settings=None, debug=False, metrics_endpoint=None,
    )  # fmt: skip
    model = ModelSettings(
        name="reference", implementation=Reference, parameters=ModelParameters(uri=sys.argv[1])
    )  # fmt: skip
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
