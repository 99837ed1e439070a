run *args:
    cargo run --release -- run {{args}}

demo *args:
    cargo run -- demo {{args}}

test:
    ./scripts/test

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
