"""QuickBooks' API of a simulator without sockets, by plain requests."""

from __future__ import annotations

import requests

from connectors.quickbooks.simulator import InProcess, Simulator


class SimulatorApi:
    """Plain requests with a token, as any app would send them."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.session = requests.Session()
        self.session.mount("http://", InProcess(simulator))
        self.token = simulator.connect()["access_token"]
        self.session.headers["Authorization"] = f"Bearer {self.token}"
        self.base = f"http://simulator/v3/company/{simulator.company.realm}"
