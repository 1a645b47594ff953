"""A worker of Kafka Connect (distributed) with Debezium's connectors, on a loopback port."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.stack.definition import CONNECT
from deploy.stack.jars import JAVA, LOGGING, jars
from deploy.stack.process import free_port
from deploy.stack.server import Server

_JAVA = [*JAVA, "-Xmx768m"]
_CONNECTOR = "io.debezium.connector.mariadb.MariaDbConnector"


class KafkaConnect(Server):
    """A Connect worker on a loopback port; what it knows is in the broker.

    Args:
        servers: the broker's `bootstrap.servers`.
        folder: as of every server.
        port: of its REST interface; a free one where None.
        settings: worker settings beside ours, or instead of them.
        environment: variables that connectors may name as `${env:NAME}`.
    """

    title = "The Connect worker"
    patience = 120.0  # five on an idle machine

    def __init__(
        self,
        servers: str,
        folder: Path | None = None,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, "connect.log")
        self._jars, self._plugins = jars("kafka"), jars("debezium")
        self._port = port or free_port()
        self._servers = servers
        self._settings = dict(settings or {})
        self._environment = dict(environment or {})

    @property
    def url(self) -> str:
        """Where its REST interface is."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the worker and wait until it knows its connectors. Raises ServerFailedError."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the worker without waiting for it."""
        self._process.start(
            [
                *_JAVA,
                f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
                "org.apache.kafka.connect.cli.ConnectDistributed",
                str(self._configure()),
            ],
            environment={"CLASSPATH": f"{self._jars}/*", **self._environment},
            folder=self.folder,
        )

    def wait(self) -> None:
        """Wait until a launched worker answers and knows its connectors. Raises ServerFailedError."""
        self._await(self._ready)

    def _ready(self) -> bool:
        """Whether REST paths exist and answer: its port opens earlier, and answers only once it has joined its group."""
        try:
            plugins = self.get("/connector-plugins")
            self.get("/connectors")
        except (OSError, http.client.HTTPException, urllib.error.URLError, ValueError):
            return False
        return any(plugin.get("class") == _CONNECTOR for plugin in plugins)

    def get(self, path: str) -> Any:
        """The answer to a GET, decoded."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:  # noqa: S310 - our own loopback address
            return json.load(answer)

    def _configure(self) -> Path:
        configuration = self.folder / "connect.properties"
        # A plugin is a folder of jars inside a folder of the plugin path.
        (self.folder / "plugins").mkdir(parents=True, exist_ok=True)
        plugin = self.folder / "plugins" / "debezium"
        plugin.unlink(missing_ok=True)
        plugin.symlink_to(self._plugins)
        (self.folder / "log4j2.properties").write_text(LOGGING)
        settings = {
            **CONNECT,
            "bootstrap.servers": self._servers,
            "listeners": self.url,
            "plugin.path": str(self.folder / "plugins"),
        }
        settings |= self._settings
        configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return configuration
