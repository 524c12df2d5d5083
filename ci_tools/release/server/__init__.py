"""One bundle behind the Open Inference Protocol, REST version 2: one process per pool member.

    python -m ci_tools.release.server --bundle DIR --member m1 --port N --predictions FILE

    HTTP (granian) ─▶ app ─▶ request ─▶ batching ─▶ model (ONNX Runtime, checked answers) ─▶ response
                                                      └─▶ predictions: one line of JSON per answer

The event loop reads and writes; one thread runs the model on whatever has queued meanwhile, so that a model that hangs
keeps neither health checks nor deadlines waiting.
"""
