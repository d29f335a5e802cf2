//! Compiles `bpf/*.bpf.c`, links them into one object and generates its Rust skeleton.
//!
//! Does nothing without the feature `record`, so that the analysis half builds without clang.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "record")]
    record::build();
}

#[cfg(feature = "record")]
mod record {
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};

    use libbpf_cargo::SkeletonBuilder;

    /// One file per hook family; weak definitions in the headers become one copy when linked.
    const SOURCES: [&str; 9] =
        ["abi", "process", "exit", "tls", "rustls", "go", "io", "channel", "file"];

    const RESOLVERS: &str = "src/capture/tls_library";

    /// `v3` (kernel 5.1) has 32-bit arithmetic and the jumps that go with it. `BPF_PROG` declares a
    /// context parameter that most programs leave unused.
    const CLANG_ARGS: [&str; 5] =
        ["-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"];

    pub(crate) fn build() {
        println!("cargo::rerun-if-changed=bpf");
        println!("cargo::rustc-env=AGENTSIGHT_RESOLVERS={:016x}", digest_of_resolvers());
        let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        let linked = out_dir.join("agentsight.bpf.o");
        let objects: Vec<PathBuf> = SOURCES.iter().map(|name| compile(name, &out_dir)).collect();
        link(&objects, &linked);
        let skeleton = out_dir.join("agentsight.skel.rs");
        SkeletonBuilder::new()
            .obj(&linked)
            .generate(&skeleton)
            .unwrap_or_else(|error| panic!("generating the BPF skeleton failed: {error:#}"));
        without_inner_attributes(&skeleton);
    }

    fn compile(name: &str, out_dir: &Path) -> PathBuf {
        let source = format!("bpf/{name}.bpf.c");
        let object = out_dir.join(format!("{name}.bpf.o"));
        SkeletonBuilder::new()
            .source(&source)
            .obj(&object)
            .clang_args(CLANG_ARGS)
            .build()
            .unwrap_or_else(|error| panic!("compiling {source} failed (needs clang): {error:#}"));
        object
    }

    fn link(objects: &[PathBuf], linked: &Path) {
        let mut linker = libbpf_rs::Linker::new(linked).expect("OUT_DIR is writable");
        for object in objects {
            linker
                .add_file(object)
                .unwrap_or_else(|error| panic!("linking {} failed: {error}", object.display()));
        }
        linker.link().unwrap_or_else(|error| panic!("linking the BPF objects failed: {error}"));
    }

    /// Of the source of the resolvers, whose answers the recorder keeps on disk: answers of another
    /// source are not believed. FNV-1a, which is enough to tell versions apart.
    fn digest_of_resolvers() -> u64 {
        println!("cargo::rerun-if-changed={RESOLVERS}");
        println!("cargo::rerun-if-changed={RESOLVERS}.rs");
        let mut files = vec![PathBuf::from(format!("{RESOLVERS}.rs"))];
        let mut directories = vec![PathBuf::from(RESOLVERS)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("the source is there") {
                let path = entry.expect("the source is readable").path();
                if path.is_dir() { directories.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        let bytes = files.iter().flat_map(|path| fs::read(path).expect("the source is readable"));
        bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// Generated files are included into a module, where inner attributes are not allowed.
    fn without_inner_attributes(path: &Path) {
        let text = fs::read_to_string(path).expect("the skeleton was just written");
        let kept: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("#!["))
            .flat_map(|line| [line, "\n"])
            .collect();
        fs::write(path, kept).expect("OUT_DIR is writable");
    }
}
