"""Models: nn.Modules that take rows of users and items and give scores."""
