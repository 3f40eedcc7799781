"""What people watch Plimsoll with, made from code: Grafana's dashboards and provisioning, Prometheus' rules and an example of its settings.

`python -m grafana.build` writes all of it. Nothing here runs in a worker.
"""
