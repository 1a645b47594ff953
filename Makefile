# Everything a fresh machine needs is installed into .venv by these targets.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Test files at once, each process with servers of its own: one more than two cores, for tests wait as often as they work.
JOBS ?= 3
# Where a shell forbids compiled modules each command would compile all it imports anew, which takes twice as long as it does.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-fast kills lint bench lock wheel stack stack-jars stack-mariadb clean
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

demo: .venv/installed ## the main job on the embedded database: make demo ARGS="--for 20"
	@$(BIN)/rowtide demo $(ARGS)

test: .venv/installed lint wheel stack-jars stack-mariadb ## everything: lint, the tree, the installed wheel
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

stack: .venv/installed ## MariaDB, Kafka, Debezium, PostgreSQL and Rowtide, natively: make stack ARGS="--traffic"
	@$(BIN)/python -m deploy.stack $(ARGS)

stack-mariadb: .venv/installed ## Debian's MariaDB server, where this machine may have it
	@$(BIN)/python -m deploy.stack.mariadb

stack-jars: .venv/installed ## the jars of Kafka and Debezium, into the user's cache
	@$(BIN)/python -m deploy.stack.jars

test-fast: .venv/installed ## the tests that need no server
	$(BIN)/python -m pytest tests/unit tests/meta $(ARGS)

kills: .venv/installed ## one thousand kills of the worker, a transaction of a million rows
	$(BIN)/python -m pytest tests/faults --kills 1000 --huge 1000000 $(ARGS)

lint: .venv/installed ## ruff, mypy --strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --verbose

bench: .venv/installed ## ratios in one run; the last line is JSON
	$(BIN)/python -m bench $(ARGS)

wheel: .venv/installed ## the installable wheel, in dist/
	rm -rf dist && $(BIN)/python -m hatchling build -t wheel >/dev/null

lock: ## pin the dependencies anew
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --constraints requirements.lock pyproject.toml -o deploy/requirements.lock

clean:
	rm -rf .venv dist
