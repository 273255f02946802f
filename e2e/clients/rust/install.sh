# diesel's own program: a dependency, so that its version is locked and libpq is built once.
CARGO_TARGET_DIR=target cargo build --locked --quiet -p diesel_cli
