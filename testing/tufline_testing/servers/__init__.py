"""Real servers for tests: Apache Kafka, OpenBao, the whole stack; and proxies that delay and cut connections."""
