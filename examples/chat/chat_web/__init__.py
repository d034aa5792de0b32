"""A chat in the browser: answers of a language model, token by token."""
