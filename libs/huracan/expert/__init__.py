"""The Expert port: context builders (slow, single writer), a responder (stateless), and the service that runs them."""
