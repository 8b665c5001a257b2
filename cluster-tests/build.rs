//! Gives the program `sim` a source of randomness that a seed can fix; see `src/sim/seeded.c`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=src/sim/seeded.c");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    for object in cc::Build::new().file("src/sim/seeded.c").opt_level(1).compile_intermediates() {
        println!("cargo::rustc-link-arg-bin=sim={}", object.display());
    }
    println!("cargo::rustc-link-arg-bin=sim=-Wl,--export-dynamic-symbol=getrandom");
}
