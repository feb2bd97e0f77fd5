from .hub import export_transformers as export_transformers
from .onnx import export_onnx as export_onnx
