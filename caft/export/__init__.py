"""A trained model for other runtimes: ONNX and torch.export."""
