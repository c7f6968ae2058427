//! Compiles the .proto files with protox: no protoc on the machine needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=highwater");
    let files = protox::compile(["highwater/v1/stream.proto", "highwater/v1/enrol.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
