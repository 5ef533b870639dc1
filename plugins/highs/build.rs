//! Compiles HiGHS, for guests and, where `OPTWASM_NATIVE_HIGHS` is set, for this machine, which is
//! what benchmarks compare with.
//!
//! The source is the unchanged upstream release that the crate `highs-sys` carries, pinned by
//! `upstream/Cargo.lock`. Its own build system is CMake; of that, only the lists of files are used.
//! Where there is no C++ compiler for guests, nothing is compiled and the library has no solver.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use optwasm_toolchain::{CToolchain, GuestToolchain, c_flags, flags_of_this_build};

/// The lists of `cmake/sources.cmake` that make up the library. The others belong to parts that
/// need a GPU or an external BLAS.
const LISTS: [&str; 7] = [
    "highs_sources",
    "cupdlp_sources",
    "ipx_sources",
    "basiclu_sources",
    "hipo_sources",
    "factor_highs_sources",
    "hipo_util_sources",
];

/// What says at run time that those parts are not there.
const EXTRAS: [&str; 2] = ["HighsExtrasApi.cpp", "HighsExtrasExternalDeps.cpp"];

/// What HiGHS needs beyond Rust's own C library.
const LIBRARIES: [&str; 6] = [
    "c++",
    "c++abi",
    "c-printscan-long-double",
    "wasi-emulated-process-clocks",
    "wasi-emulated-signal",
    "wasi-emulated-mman",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(highs)");
    println!("cargo::rerun-if-env-changed=OPTWASM_NATIVE_HIGHS");
    for input in ["build.rs", "shim", "upstream"] {
        println!("cargo::rerun-if-changed={input}");
    }
    let is_guest = std::env::var("CARGO_CFG_TARGET_ARCH")? == "wasm32";
    if is_guest {
        let toolchain = GuestToolchain::find()?;
        let Some(compiler) = toolchain.c().filter(|c| c.has_cpp()) else {
            println!("cargo::warning=no C++ compiler for wasm32-wasi: HiGHS is left out");
            return Ok(());
        };
        compile_guest(compiler)?;
    } else if std::env::var_os("OPTWASM_NATIVE_HIGHS").is_some() {
        compile_native()?;
    } else {
        return Ok(());
    }
    println!("cargo::rustc-cfg=highs");
    Ok(())
}

fn compile_guest(compiler: &CToolchain) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let shim = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("shim");
    // The library's configuration says that there are no files, as for a system without them.
    let site = compiler.cpp_headers().join("__config_site");
    let text = std::fs::read_to_string(&site)?;
    let files = "_LIBCPP_HAS_FILESYSTEM";
    let text = text.replace(&format!("{files} 0"), &format!("{files} 1"));
    let overrides = out.join("include");
    std::fs::create_dir_all(&overrides)?;
    std::fs::write(overrides.join("__config_site"), text)?;

    let highs = Upstream::find(&out)?;
    let common = |program: PathBuf| {
        let mut build = cc::Build::new();
        build
            .compiler(program)
            .archiver(compiler.archiver())
            .no_default_flags(true)
            .flag("--target=wasm32-wasi")
            .flags(c_flags(&flags_of_this_build()))
            .define("_WASI_EMULATED_PROCESS_CLOCKS", None)
            .define("_WASI_EMULATED_SIGNAL", None)
            .define("_WASI_EMULATED_MMAN", None);
        for folder in [&shim, &overrides] {
            build.flag("-isystem").flag(folder);
        }
        highs.configure(&mut build);
        build
    };
    common(compiler.clangpp())
        // A throw ends the job: see shim/runtime.c.
        .flag("-fignore-exceptions")
        .files(&highs.cpp)
        .file(shim.join("fstream.cpp"))
        .compile("highs");
    common(compiler.clang().to_owned())
        .files(&highs.c)
        .file(shim.join("runtime.c"))
        .compile("highs-c");
    // Rust brings a C library of its own, and Debian's must not be found in its place: only the
    // parts that Rust's lacks are put where the linker looks.
    println!("cargo::rustc-link-search=native={}", out.display());
    for library in LIBRARIES {
        let file = format!("lib{library}.a");
        let mut folders = compiler.cpp_libraries().iter();
        let found = folders.find(|folder| folder.join(&file).exists());
        let found = found.ok_or_else(|| format!("the C++ compiler comes without {file}"))?;
        std::fs::copy(found.join(&file), out.join(&file))?;
        println!("cargo::rustc-link-lib=static:-bundle={library}");
    }
    Ok(())
}

fn compile_native() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let highs = Upstream::find(&out)?;
    for (cpp, files) in [(true, &highs.cpp), (false, &highs.c)] {
        let mut build = cc::Build::new();
        build
            .cpp(cpp)
            .cpp_link_stdlib(None)
            .no_default_flags(true)
            .flag("-fPIC");
        highs.configure(&mut build);
        build
            .files(files)
            .compile(if cpp { "highs" } else { "highs-c" });
    }
    println!("cargo::rustc-link-lib=stdc++");
    Ok(())
}

/// The source of HiGHS.
struct Upstream {
    root: PathBuf,
    version: String,
    includes: Vec<PathBuf>,
    cpp: Vec<PathBuf>,
    c: Vec<PathBuf>,
}

impl Upstream {
    /// Finds it, and writes the header that is made for each build into `out`.
    fn find(out: &Path) -> Result<Self, Box<dyn Error>> {
        let root = source()?;
        let generated = out.join("generated");
        std::fs::create_dir_all(&generated)?;
        let version = version(&root)?;
        std::fs::write(generated.join("HConfig.h"), configuration(&version))?;

        let lists = std::fs::read_to_string(root.join("cmake/sources.cmake"))?;
        let mut includes = vec![generated];
        for folder in cmake_list(&lists, "include_dirs")? {
            let below = folder.strip_prefix("$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/");
            if let Some(folder) = below.and_then(|folder| folder.strip_suffix('>')) {
                includes.push(root.join(folder));
            }
        }
        let mut files: Vec<PathBuf> = EXTRAS
            .iter()
            .map(|file| root.join("extern").join(file))
            .collect();
        for list in LISTS {
            let below = root.join("highs");
            files.extend(
                cmake_list(&lists, list)?
                    .iter()
                    .map(|file| below.join(file)),
            );
        }
        let is_c = |file: &PathBuf| file.extension().is_some_and(|end| end == "c");
        let (c, cpp) = files.into_iter().partition(is_c);
        Ok(Self {
            root,
            version: version.join("."),
            includes,
            cpp,
            c,
        })
    }

    /// What guests and natives have in common: headers, optimization.
    fn configure(&self, build: &mut cc::Build) {
        build
            .includes(&self.includes)
            .flag("-O3")
            // The same bytes wherever the source lies.
            .flag(format!("-ffile-prefix-map={}=/highs", self.root.display()))
            .flag("-w")
            .define("NDEBUG", None)
            .define(
                "HIGHS_EXTRAS_VERSION",
                format!("\"{}\"", self.version).as_str(),
            )
            .define("LIBHIGHS_STATIC_DEFINE", None);
    }
}

/// Where cargo unpacked the source of HiGHS.
fn source() -> Result<PathBuf, Box<dyn Error>> {
    let manifest = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("upstream/Cargo.toml");
    let output = Command::new(std::env::var("CARGO")?)
        .args([
            "metadata",
            "--locked",
            "--format-version=1",
            "--manifest-path",
        ])
        .arg(manifest)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "highs-sys")
        .and_then(|package| Path::new(package["manifest_path"].as_str()?).parent())
        .map(|folder| folder.join("HiGHS"))
        .ok_or_else(|| "cargo does not say where highs-sys is".into())
}

/// The header that CMake would have made out of `HConfig.h.in`: no zlib, no threads of its own.
fn configuration([major, minor, patch]: &[String; 3]) -> String {
    format!(
        "#pragma once\n\
         #define CMAKE_BUILD_TYPE \"Release\"\n\
         #define CUPDLP_CPU\n\
         #define HIGHS_NO_DEFAULT_THREADS\n\
         #define HIGHS_HAVE_BUILTIN_CLZ\n\
         #define HIGHS_GITHASH \"n/a\"\n\
         #define HIGHS_VERSION_MAJOR {major}\n\
         #define HIGHS_VERSION_MINOR {minor}\n\
         #define HIGHS_VERSION_PATCH {patch}\n"
    )
}

/// Major, minor and patch number of the source.
fn version(source: &Path) -> Result<[String; 3], Box<dyn Error>> {
    let text = std::fs::read_to_string(source.join("Version.txt"))?;
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|number| number.trim().to_owned())
            .ok_or_else(|| format!("Version.txt has no {name}"))
    };
    Ok([
        number("HIGHS_MAJOR=")?,
        number("HIGHS_MINOR=")?,
        number("HIGHS_PATCH=")?,
    ])
}

/// The words of `set(name …)` in a CMake file.
fn cmake_list<'a>(text: &'a str, name: &str) -> Result<Vec<&'a str>, String> {
    text.split("set(")
        .find_map(|list| {
            list.strip_prefix(name)
                .filter(|rest| rest.starts_with(char::is_whitespace))
        })
        .and_then(|list| list.split(')').next())
        .map(|list| list.split_whitespace().collect())
        .ok_or_else(|| format!("cmake/sources.cmake has no list {name}"))
}
