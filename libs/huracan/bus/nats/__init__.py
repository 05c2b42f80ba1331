"""The bus on NATS: core subjects for best effort, JetStream for what must not be lost."""
