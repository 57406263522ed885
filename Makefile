# The usual ways in. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench chart image

help: ## Lists the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

demo: ## Tells the story of content trust in one process, on loopback, and stays up to be tried by hand
	@cargo run --locked -- sandbox

test: ## Brings the real peers, then runs all tests
	@tests/tools/provision >/dev/null
	cargo test --locked --features e2e

lint: ## Formatting, lints and documentation, warnings as errors
	cargo fmt --check
	cargo clippy --locked --all-targets --features e2e -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps

bench: ## Measures the hot paths, as ratios within one run
	cargo bench --locked --profile quick --bench hot

chart: ## Makes anew what is made from the chart: its README, schema and definitions, and the plain manifests
	COUNTERSIGN_REWRITE=1 cargo test --locked --test it chart::generated
	tests/tools/render-manifests

image: ## Builds the image from a static program, and tries what is in it (as root)
	tests/tools/image
