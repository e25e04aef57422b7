# One static binary in an empty image: no shell, no package manager, no root.
# Names of functions stay behind (3 MB): the build ID leads to them in the builder's binary.
# The builder links statically against glibc (+crt-static); any Rust image of Debian's family serves.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target x86_64-unknown-linux-gnu --bin serin \
 && objcopy --strip-all target/x86_64-unknown-linux-gnu/release/serin /serin

FROM scratch
COPY --from=build /serin /serin
USER 65532:65532
ENTRYPOINT ["/serin"]
CMD ["--help"]
