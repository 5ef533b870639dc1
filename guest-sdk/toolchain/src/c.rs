//! C and C++ compilers for wasm32-wasi.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{TARGET, ToolchainError, cache, debian, flags, run};

/// A C compiler that makes WASI programs. Get one from [`GuestToolchain::c`](crate::GuestToolchain::c).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CToolchain {
    clang: PathBuf,
    cpp: Option<Cpp>,
}

/// Where the C++ standard library is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cpp {
    headers: PathBuf,
    libraries: Vec<PathBuf>,
}

impl CToolchain {
    /// Looks in the per-user cache, then for the WASI SDK that `WASI_SDK_PATH` names, then for a
    /// clang on the PATH that can link a WASI program.
    pub(crate) fn find() -> Option<Self> {
        if let Some(folder) = cache::root()
            .ok()
            .and_then(|root| cache::newest(&root, debian::C_KIND))
        {
            return Some(Self {
                clang: folder.join("bin/clang"),
                cpp: Cpp::of_debian(&folder),
            });
        }
        let sdk = std::env::var_os("WASI_SDK_PATH").map(|sdk| Path::new(&sdk).join("bin/clang"));
        sdk.into_iter()
            .chain([PathBuf::from("clang")])
            .map(|clang| Self { clang, cpp: None })
            .find(Self::links_a_program)
    }

    /// Whether the compiler has a libc and a linker for the target.
    fn links_a_program(&self) -> bool {
        let folder = std::env::temp_dir().join(format!("optwasm-clang-{}", std::process::id()));
        let source = folder.join("probe.c");
        let linked = std::fs::create_dir_all(&folder).is_ok()
            && std::fs::write(
                &source,
                "#include <stdio.h>\nint main(void) { return puts(\"\"); }\n",
            )
            .is_ok()
            && self
                .compile(&[&source], &[], &folder.join("probe.wasm"))
                .is_ok();
        // What cannot be removed is two small files in the folder for such things.
        let _ = std::fs::remove_dir_all(&folder);
        linked
    }

    /// Path of clang. It needs `--target=wasm32-wasip1` unless it comes from the cache, where that
    /// is its default.
    #[must_use]
    pub fn clang(&self) -> &Path {
        &self.clang
    }

    /// Whether it compiles C++, too: only that of the cache does, whose library is known.
    #[must_use]
    pub fn has_cpp(&self) -> bool {
        self.cpp.is_some()
    }

    /// Path of clang++; see [`has_cpp`](Self::has_cpp).
    #[must_use]
    pub fn clangpp(&self) -> PathBuf {
        self.clang.with_file_name("clang++")
    }

    /// Path of an archiver for object files; see [`has_cpp`](Self::has_cpp).
    #[must_use]
    pub fn archiver(&self) -> PathBuf {
        self.clang.with_file_name("llvm-ar")
    }

    /// Folder with the headers of the C++ library; empty without C++.
    #[must_use]
    pub fn cpp_headers(&self) -> &Path {
        let headers = self.cpp.as_ref().map(|cpp| cpp.headers.as_path());
        headers.unwrap_or(Path::new(""))
    }

    /// Folders with the C++ library and with the parts of the C library that are linked on demand.
    #[must_use]
    pub fn cpp_libraries(&self) -> &[PathBuf] {
        self.cpp.as_ref().map_or(&[], |cpp| &cpp.libraries)
    }

    /// Compiles and links `sources` into the WASI command `output`, looking for headers in
    /// `include_dirs`: optimized, with [`c_flags`](crate::c_flags), a stack of 1 MiB that lies
    /// below the data (so that overflowing it traps), and names but no other debug information.
    ///
    /// # Errors
    ///
    /// [`ToolchainError::Failed`] with the compiler's messages.
    pub fn compile<P: AsRef<Path>>(
        &self,
        sources: &[P],
        include_dirs: &[&Path],
        output: &Path,
    ) -> Result<(), ToolchainError> {
        let mut command = Command::new(&self.clang);
        command
            .arg(format!("--target={TARGET}"))
            .args(["-O3", "-Wall", "-Wextra"])
            .args(flags::c_flags(&flags::rust_flags()))
            .args([
                "-Wl,-z,stack-size=1048576",
                "-Wl,--stack-first",
                "-Wl,--strip-debug",
            ])
            .arg("-o")
            .arg(output);
        for folder in include_dirs {
            command.arg("-I").arg(folder);
        }
        command.args(sources.iter().map(AsRef::as_ref));
        run::output(&mut command).map(drop)
    }
}

impl Cpp {
    /// The library that Debian's packages brought into the folder, if they did.
    fn of_debian(usr: &Path) -> Option<Self> {
        let llvm = std::fs::read_dir(usr.join("lib")).ok()?.flatten();
        llvm.map(|entry| entry.path())
            .find(|folder| folder.join("include/wasm32-wasi/c++/v1").is_dir())
            .map(|folder| Self {
                headers: folder.join("include/wasm32-wasi/c++/v1"),
                libraries: vec![folder.join("lib/wasm32-wasi"), usr.join("lib/wasm32-wasi")],
            })
    }
}
