"""The ceiling: bare ASGI with orjson on granian, the model in line, and no check of anything."""

import asyncio
import sys

import numpy as np
import onnxruntime
import orjson
from granian.constants import Interfaces
from granian.server.embed import Server

DTYPES = {"FP32": np.float32, "INT64": np.int64}
HEADERS = [(b"content-type", b"application/json")]
OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = OPTIONS.inter_op_num_threads = 1
SESSION = onnxruntime.InferenceSession(sys.argv[1], OPTIONS, providers=["CPUExecutionProvider"])
NAMES = [one.name for one in SESSION.get_outputs()]


async def app(scope, receive, send):
    """Read, run, write; one request at a time."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    answer = {}
    if body:
        arrays = {
            one["name"]: np.array(one["data"], DTYPES[one["datatype"]]).reshape(one["shape"])
            for one in orjson.loads(body)["inputs"]
        }
        outputs = zip(NAMES, SESSION.run(NAMES, arrays), strict=True)
        told = [{"name": name, "datatype": "FP32", "shape": out.shape, "data": out.ravel()} for name, out in outputs]
        answer = {"model_name": "reference", "outputs": told}
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)})


if __name__ == "__main__":
    server = Server(app, port=int(sys.argv[2]), interface=Interfaces.ASGINL, log_enabled=False, websockets=False)
    asyncio.run(server.serve())
