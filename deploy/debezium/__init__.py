"""Ready connector configurations for the domain `rental`, and the rights their users need.

`python -m deploy.debezium` writes them anew from the one definition in `connectors.debezium`.
"""
