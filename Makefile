# Two commands: `make up` runs Highwater on this machine, `make test` runs its tests.
#
# Both first install what is missing (.ci/setup says what). `make up ARGS="--interval 5s"` passes flags on.

ARGS ?=

.PHONY: up test

up:
	@.ci/setup up
	cargo build --release --package highwater-agent
	cargo build --release --package highwater
	@exec target/release/highwater up $(ARGS)

# The tests make IPC, PID and mount namespaces.
test:
	@[ "$$(id -u)" = 0 ] || { echo 'make test needs root for namespaces: sudo env "PATH=$$PATH" make test' >&2; exit 1; }
	@.ci/setup test
	cargo build --workspace --bins
	cargo test --workspace
