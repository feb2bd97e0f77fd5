"""The history of a run for programs that draw many runs: TensorBoard, Weights & Biases, MLflow."""
