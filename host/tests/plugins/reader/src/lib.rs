//! Reports the data that it can read in addition to its input: variables, a file of each granted folder, and whether
//! it can write.

use wharf_plugin_sdk::pre_create::{Adjustment, Input, PreCreate, Verdict};
use wharf_plugin_sdk::{NoSettings, Plugin, export_plugin};

// The parts of WASI 0.2 in use.
#[allow(unsafe_code, missing_docs, clippy::all)]
mod wasi {
    wit_bindgen::generate!({
        inline: "
            package test:reader;
            world reads {
                import wasi:cli/environment@0.2.0;
                import wasi:filesystem/preopens@0.2.0;
            }
            package wasi:cli@0.2.0 {
                interface environment { get-environment: func() -> list<tuple<string, string>>; }
            }
            package wasi:filesystem@0.2.0 {
                interface types {
                    enum error-code {
                        access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, file-too-large,
                        illegal-byte-sequence, in-progress, interrupted, invalid, io, is-directory, loop, too-many-links,
                        message-size, name-too-long, no-device, no-entry, no-lock, insufficient-memory,
                        insufficient-space, not-directory, not-empty, not-recoverable, unsupported, no-tty,
                        no-such-device, overflow, not-permitted, pipe, read-only, invalid-seek, text-file-busy,
                        cross-device,
                    }
                    flags path-flags { symlink-follow }
                    flags open-flags { create, directory, exclusive, truncate }
                    flags descriptor-flags {
                        read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, mutate-directory,
                    }
                    resource descriptor {
                        read: func(length: u64, offset: u64) -> result<tuple<list<u8>, bool>, error-code>;
                        open-at: func(path-flags: path-flags, path: string, open-flags: open-flags,
                            %flags: descriptor-flags) -> result<descriptor, error-code>;
                    }
                }
                interface preopens {
                    use types.{descriptor};
                    get-directories: func() -> list<tuple<descriptor, string>>;
                }
            }
        ",
        world: "test:reader/reads",
        generate_all,
    });
}

use wasi::wasi::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};

struct Reader;

impl Plugin for Reader {
    type Settings = NoSettings;
}

fn read(folder: &Descriptor, path: &str) -> String {
    let file = folder.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ);
    match file.and_then(|file| file.read(1 << 10, 0)) {
        Ok((bytes, _)) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("{error:?}"),
    }
}

impl PreCreate for Reader {
    fn pre_create(_: Input, _: NoSettings) -> Result<Verdict, String> {
        let mut said = Vec::new();
        for (name, value) in wasi::wasi::cli::environment::get_environment() {
            said.push(Adjustment::env(format!("SEEN_{name}"), value));
        }
        for (folder, path) in wasi::wasi::filesystem::preopens::get_directories() {
            let name = path.trim_matches('/').to_owned();
            said.push(Adjustment::env(format!("FILE_{name}"), read(&folder, "a.txt")));
            said.push(Adjustment::env(format!("OUT_{name}"), read(&folder, "../secret.txt")));
            said.push(Adjustment::env(format!("LINK_{name}"), read(&folder, "link")));
            let new = folder.open_at(PathFlags::empty(), "new", OpenFlags::CREATE, DescriptorFlags::WRITE);
            let wrote = new.map_or_else(|error| format!("{error:?}"), |_| "written".to_owned());
            said.push(Adjustment::env(format!("WRITE_{name}"), wrote));
        }
        Ok(Verdict::adjust(said))
    }
}

export_plugin!(Reader: pre_create);
