"""The same ONNX model behind other servers, each as its own documentation shows: `python FILE MODEL PORT`.

Every one has a single process that runs the model, on one thread, and takes the Open Inference Protocol's JSON or,
where the server has a protocol of its own, that JSON as its payload.
"""
