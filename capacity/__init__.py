"""Autoscaling on paper: Kubernetes' HorizontalPodAutoscaler, metrics-server and our replicas, simulated step by step.

Nothing here measures, and nothing asks for the time: what goes in are figures of docs/bench.json and settings, what
comes out is docs/capacity.md. It imports neither calsvc nor a cluster's client.
"""
