//! Compiles the .proto files with protox: no protoc on the machine needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=highwater");
    let files = protox::compile(["highwater/v1/stream.proto", "highwater/v1/enrol.proto"], ["."])?;
    // It holds a secret: src/token.rs writes its `Debug` by hand.
    tonic_prost_build::configure().skip_debug(["highwater.v1.EnrolRequest"]).compile_fds(files)?;
    Ok(())
}
