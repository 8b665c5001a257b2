//! Generates the messages and stubs of Temporal's API from the descriptor set that the crate
//! `temporalio-protos` compiled, and the project's own messages from the `.proto` files beside this one.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use protox::Compiler;
use protox::file::{ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver};
use tonic_prost_build::Config;

/// Packages of the descriptor set that this project serves or sends; the rest (the SDKs' own
/// packages, the cloud API) is left out of the generated code and of reflection.
const PACKAGES: [&str; 4] = ["temporal.api.", "google.api", "google.rpc", "google.protobuf"];
const LEFT_OUT: [&str; 2] = ["temporal.api.cloud.", "temporal.api.testservice."];

const OWN_FILES: [&str; 4] =
    ["bristlecone/record.proto", "bristlecone/chain.proto", "bristlecone/node.proto", "bristlecone/admin.proto"];

/// Large fields of messages that are handed from task to task: as a box they are moved for next to nothing.
const BOXED: [&str; 25] = [
    ".bristlecone.chain.v1.Input.kind.start",
    ".bristlecone.chain.v1.Input.kind.signal_with_start",
    ".bristlecone.chain.v1.Input.kind.start_child",
    ".bristlecone.chain.v1.Input.kind.create_schedule",
    ".bristlecone.chain.v1.Input.kind.update_schedule",
    ".bristlecone.chain.v1.Input.kind.scheduled_start",
    ".bristlecone.chain.v1.Reply.kind.schedule",
    ".bristlecone.chain.v1.CompleteWorkflowTask.request",
    ".bristlecone.chain.v1.FailWorkflowTask.request",
    ".bristlecone.chain.v1.Answer.reply",
    ".bristlecone.chain.v1.ChildClosed.close_event",
    ".bristlecone.chain.v1.Reply.kind.start",
    ".bristlecone.chain.v1.Reply.kind.describe",
    ".bristlecone.chain.v1.Reply.kind.workflow_task_started",
    ".bristlecone.chain.v1.Reply.kind.workflow_task_completed",
    ".bristlecone.chain.v1.Reply.kind.activity_started",
    ".bristlecone.chain.v1.Input.kind.start_standalone",
    ".bristlecone.chain.v1.Reply.kind.describe_standalone",
    ".bristlecone.record.v1.Head.standalone",
    ".bristlecone.node.v1.Request.kind.chain",
    ".bristlecone.node.v1.Deliver.task.activity",
    ".bristlecone.node.v1.Deliver.task.workflow",
    ".bristlecone.node.v1.WorkflowDelivery.started",
    ".bristlecone.node.v1.Notice.kind.deliver",
    ".bristlecone.node.v1.Notice.kind.undelivered",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let path = env::var("DEP_TEMPORALIO_PROTOS_DESCRIPTOR_PATH")?;
    println!("cargo:rerun-if-changed={path}");
    println!("cargo:rerun-if-changed=bristlecone");

    let raw = served_files(&fs::read(path)?)?;
    fs::write(out.join("api_descriptors.bin"), without_comments(&raw)?)?;
    let api = FileDescriptorSet::decode(raw.as_slice())?;

    let own = compile_own(&raw)?;
    let mut own_files = own.clone();
    own_files.file.retain(|file| file.package().starts_with("bristlecone."));
    own_files.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("own_descriptors.bin"), own_files.encode_to_vec())?;

    let mut config = config();
    config.include_file("api.rs");
    tonic_prost_build::configure().build_server(true).build_client(true).compile_fds_with_config(api, config)?;

    let mut config = self::config();
    config.extern_path(".temporal.api", "crate::temporal::api");
    for path in BOXED {
        config.boxed(path);
    }
    config.include_file("own.rs");
    tonic_prost_build::configure().build_server(true).build_client(true).compile_fds_with_config(own, config)?;
    Ok(())
}

/// Settings common to both sets: payload data is never copied (`bytes::Bytes`), and maps are ordered,
/// so that equal messages have equal encodings.
fn config() -> Config {
    let mut config = Config::new();
    config.bytes(["."]);
    config.btree_map(["."]);
    config.enable_type_names();
    config
}

/// The encoded files of the set that this project serves. They are kept as bytes because decoding
/// drops extensions, among them the `google.api.http` routes.
fn served_files(set: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    const FILE: u32 = 1;
    let mut rest = set;
    let mut kept = Vec::with_capacity(set.len());
    while !rest.is_empty() {
        let (field, _) = decode_key(&mut rest)?;
        let len = usize::try_from(decode_varint(&mut rest)?)?;
        let (file, after) = rest.split_at_checked(len).ok_or("truncated descriptor set")?;
        rest = after;
        let descriptor = FileDescriptorProto::decode(file)?;
        let package = descriptor.package();
        let served =
            PACKAGES.iter().any(|p| package.starts_with(p)) && !LEFT_OUT.iter().any(|p| package.starts_with(p));
        if field == FILE && served {
            encode_key(FILE, WireType::LengthDelimited, &mut kept);
            encode_varint(len as u64, &mut kept);
            kept.extend_from_slice(file);
        }
    }
    Ok(kept)
}

/// The same set without the source information of its files: half of its bytes, which reflection would keep in memory.
fn without_comments(set: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    const SOURCE_CODE_INFO: u32 = 9;
    let mut rest = set;
    let mut kept = Vec::with_capacity(set.len());
    while !rest.is_empty() {
        let (field, wire_type) = decode_key(&mut rest)?;
        let len = usize::try_from(decode_varint(&mut rest)?)?;
        let (mut file, after) = rest.split_at_checked(len).ok_or("truncated descriptor set")?;
        rest = after;
        let mut bare = Vec::with_capacity(len);
        while !file.is_empty() {
            let start = file;
            let (field, wire_type) = decode_key(&mut file)?;
            skip_field(wire_type, field, &mut file, DecodeContext::default())?;
            if field != SOURCE_CODE_INFO {
                bare.extend_from_slice(start.strip_suffix(file).ok_or("a field runs on")?);
            }
        }
        encode_key(field, wire_type, &mut kept);
        encode_varint(bare.len() as u64, &mut kept);
        kept.extend(bare);
    }
    Ok(kept)
}

/// The project's own files together with what they import: the generator looks into imported
/// messages, and leaves out those that `extern_path` names.
fn compile_own(api: &[u8]) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(".".into()));
    resolver.add(DescriptorSetFileResolver::decode(api)?);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_source_info(true).include_imports(true).open_files(OWN_FILES)?;
    Ok(compiler.file_descriptor_set())
}
