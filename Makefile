# What people do with this tree. Everything that is needed besides Rust, make and a Debian is installed on the way.

RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
ARGS ?=

.PHONY: help demo test test-long build fmt lint doc clean-parts rust

help:
	@echo 'make demo         install what is missing, build, and run the demo (ARGS="--json", ARGS="--kubeconfig FILE")'
	@echo 'make test         install what is missing, build, and run all tests against the real servers and clients'
	@echo 'make test-long    feed every parser with what chance makes of tests/corpus; 300 kills; 10 GiB recorded'
	@echo 'make build        build target/debug/weir'
	@echo 'make fmt          format the code'
	@echo 'make lint         formatting, clippy, licences and banned crates'
	@echo 'make doc          the API documentation, with warnings denied'
	@echo 'make clean-parts  remove the privately installed test programs'

demo: rust
	@tests/parts/install.sh build demo
	cargo build --locked
	target/debug/weir demo $(ARGS)

# Tests never skip: what they need is installed here, and a part that is missing fails them.
test: build
	@tests/parts/install.sh test
	cargo test --locked

# What chance makes of the corpus, with another seed each time; a find is kept in target/fuzz-finds. Then
# 300 times kill -9 under load, and 10 GiB in full capture (about 6 GB of disk).
test-long: rust
	@tests/parts/install.sh build
	WEIR_FUZZ_ROUNDS=$${WEIR_FUZZ_ROUNDS:-5000} WEIR_FUZZ_SEED=$${WEIR_FUZZ_SEED:-$$(date +%s)} \
		cargo test --locked --release --test it -- --nocapture corpus::
	@tests/parts/install.sh test
	WEIR_KILLS=$${WEIR_KILLS:-300} WEIR_CAPTURE_BYTES=$${WEIR_CAPTURE_BYTES:-10737418240} \
		cargo test --locked --release --test it -- --nocapture crash:: archive::with_full_capture

build: rust
	@tests/parts/install.sh build
	cargo build --locked

fmt: rust
	cargo fmt

lint: rust
	cargo fmt --check
	@tests/parts/install.sh build
	cargo clippy --all-targets --locked -- -D warnings
	tests/parts/licenses.sh

doc: rust
	@tests/parts/install.sh build
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

clean-parts:
	rm -rf "$${WEIR_PARTS:-$${XDG_CACHE_HOME:-$$HOME/.cache}/weir-parts}"

rust:
	@command -v cargo rustc >/dev/null || { \
		echo 'cargo is missing: install Rust $(RUST) or newer, see https://rustup.rs' >&2; exit 1; }
