"""A Kafka broker of one node (KRaft): broker and controller in one process, on loopback ports."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.stack.definition import KAFKA
from deploy.stack.jars import JAVA, LOGGING, jars
from deploy.stack.process import ServerFailedError, free_port
from deploy.stack.server import Server

# All of the heap from the start, as Kafka's own scripts give it: else it collects in a small one most of the time.
_JAVA = [*JAVA, "-Xms512m", "-Xmx512m"]


class KafkaBroker(Server):
    """A broker on loopback ports.

    Args:
        folder: as of every server.
        port: for clients; a free one where None.
        settings: broker settings beside ours, or instead of them; may be changed until the first start.
    """

    title = "The broker"
    patience = 90.0  # three on an idle machine

    def __init__(
        self, folder: Path | None = None, *, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, "broker.log")
        self._jars = jars("kafka")
        self._port, self._controller = port or free_port(), free_port()
        self.settings = dict(settings or {})

    @property
    def servers(self) -> str:
        """What clients call `bootstrap.servers`."""
        return f"127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port for clients."""
        return self._port

    @property
    def controller_port(self) -> int:
        """The port of the controller: a test that gives listeners of its own has to name it."""
        return self._controller

    def start(self) -> None:
        """Start the broker and wait until it answers. Raises ServerFailedError."""
        configuration = self._configure()
        self._process.start(
            [
                *_JAVA,
                f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}",
                "kafka.Kafka",
                str(configuration),
            ],
            environment=self.environment,
            folder=self.folder,
        )
        client = AdminClient({"bootstrap.servers": self.servers, "log_level": 0, "socket.timeout.ms": 5000})

        def answers() -> bool:
            """Whether it has registered itself with its controller and answers clients."""
            try:
                return bool(client.list_topics(timeout=1).brokers)
            except KafkaException:
                return False

        self._await(answers)

    @property
    def environment(self) -> dict[str, str]:
        """The variables Kafka's own tools need: `java -cp` would have the shell expand the star."""
        return {"CLASSPATH": f"{self._jars}/*"}

    def run_tool(self, main: str, *arguments: str, timeout: float = 60) -> str:
        """Run one of Kafka's own command line tools (its main class) and return what it printed."""
        done = subprocess.run(
            [*_JAVA, f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}", main, *arguments],
            env=dict(os.environ, **self.environment),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise ServerFailedError(f"{main} failed: {(done.stdout + done.stderr).strip()[-400:]}", hint="")
        return done.stdout

    def _configure(self) -> Path:
        """Write the configuration, anew at each start for the ports may be others, and format an empty folder."""
        configuration = self.folder / "server.properties"
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            **KAFKA,
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "log.dirs": str(self.folder / "data"),
        }
        settings |= self.settings
        configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.folder / "log4j2.properties").write_text(LOGGING)
        if not (self.folder / "data" / "meta.properties").exists():
            # An id as Kafka writes it; one that begins with a hyphen it would take for an option.
            identity = "a" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
            self.run_tool("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(configuration))
        return configuration
