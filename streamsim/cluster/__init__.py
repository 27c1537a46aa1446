"""A load test inside a cluster, and what the cluster did meanwhile: `just k8s-stress`, docs/stress-on-a-cluster.md."""
