"""Networks from elsewhere: ONNX files (`onnx_import`) and PyTorch modules (`torch_import`).

Both read a foreign graph node by node; a table of handlers, one per operator, tells a `NetworkBuilder` which layers to
put down, and `folding` leaves only those that a `Network` has.
"""
