"""One bundle behind the Open Inference Protocol, REST version 2: one process per pool member.

    python -m ci_tools.release.server --bundle DIR --member m1 --port N --predictions FILE

    HTTP (granian) ─▶ app ─▶ request ─▶ batching ─▶ model (ONNX Runtime, checked answers) ─▶ response
                                                      └─▶ predictions: one line of JSON per answer

The event loop reads and writes; one thread runs the model on whatever has queued meanwhile, so that a model that hangs
keeps neither health checks nor deadlines waiting.

What the protocol leaves open is decided so:

- The model's only version is its bundle's digest. Answers name it; a request may.
- `null` in a floating-point tensor of JSON is NaN, which models read as missing; raw tensors may hold NaN and infinity.
  The answer decides whether the model can do without: an answer that is not finite is nobody's.
- Parameters of extensions that are not here are passed over.
- An answer that is not finite, not of the manifest's shapes, or a decision outside of [0, 1] is 500 with the header
  `x-switchback-event: invalid_outputs`.
- `x-request-timeout-ms` is a request's own deadline; behind it comes 504. A full queue is 503 with `Retry-After`.

Exit codes: 0 drained, 1 requests were cut off or memory ran out, 2 the bundle or a flag is refused and would be again,
4 the port or the device cannot be had now. The last line on stderr says why.
"""
