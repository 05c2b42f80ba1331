"""The one Expert port: context builders (slow, single writer) and a responder (stateless), and the service that runs them."""
