"""A Kafka broker of one node (KRaft): broker and controller in one process, on loopback ports."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.stack.definition import KAFKA
from deploy.stack.jars import LOGGING, jars
from deploy.stack.process import Process, ServerFailedError, free_port

_JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
_START = 90  # seconds; three on an idle machine


class KafkaBroker:
    """A broker on free loopback ports; a context manager that stops it and removes its folder.

    Data and ports stay over stop, kill and start.

    Args:
        folder: where its data lives; a temporary one that `close` removes where None.
        port: for clients; a free one where None.
        settings: broker settings beside ours, or instead of them; may be changed until the first start.
    """

    def __init__(
        self, folder: Path | None = None, *, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._own = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="rowtide-kafka-"))
        self._jars = jars("kafka")
        self._port, self._controller = port or free_port(), free_port()
        self.settings = dict(settings or {})
        self._process = Process(self.folder / "broker.log")

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

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.alive

    @property
    def pid(self) -> int:
        """The broker's process id."""
        return self._process.pid

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
        self._await()

    def stop(self) -> None:
        """Stop it as an operator would."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def restart(self) -> None:
        """Stop and start on the same data and ports."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        self._process.resume()

    def close(self) -> None:
        """Stop it, and remove the folder where it is ours."""
        self._process.stop(timeout=10)
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)

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
            tool = "kafka.tools.StorageTool"
            identity = self.run_tool(tool, "random-uuid").split()[-1]
            self.run_tool(tool, "format", "-t", identity, "-c", str(configuration))
        return configuration

    def _await(self) -> None:
        """Wait until the broker has registered itself with its controller and answers clients."""
        client = AdminClient({"bootstrap.servers": self.servers, "log_level": 0, "socket.timeout.ms": 5000})
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            if not self._process.alive:
                raise ServerFailedError(
                    f"The broker ended while starting: {self._process.tail()}",
                    hint=f"See {self.folder / 'broker.log'}.",
                )
            try:
                if client.list_topics(timeout=1).brokers:
                    return
            except KafkaException:
                continue
        raise ServerFailedError(
            f"The broker did not answer within {_START} s: {self._process.tail()}",
            hint=f"See {self.folder / 'broker.log'}.",
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
