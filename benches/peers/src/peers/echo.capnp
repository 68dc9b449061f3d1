# What capnproto.rs calls. echo_capnp.rs is what the compiler of Cap'n Proto makes of this file:
#   capnp compile -orust:src/peers --src-prefix=src/peers src/peers/echo.capnp
# (Debian: capnproto; `cargo install capnpc` in the version of Cargo.lock).
@0xc38861d6bc4a6104;

interface Echo {
  echo @0 (payload :Data) -> (payload :Data);
}
