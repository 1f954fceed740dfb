"""Network architectures: nn.Module only, no files, no engines."""
