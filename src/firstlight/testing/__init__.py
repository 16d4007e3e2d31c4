"""The conformance suite that every detector runs."""
