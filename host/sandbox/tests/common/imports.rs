//! All functions that a guest may import, with their types: those of WASI preview 1 from its witx
//! description, those of `optwasm_v1` from `docs/guest-abi.md`.

/// Name, parameters and results, one letter each: `i` and `l` for integers of 32 and 64 bits, `d`
/// for a 64-bit float.
const WASI: &str = "
args_get ii i
args_sizes_get ii i
clock_res_get ii i
clock_time_get ili i
environ_get ii i
environ_sizes_get ii i
fd_advise illi i
fd_allocate ill i
fd_close i i
fd_datasync i i
fd_fdstat_get ii i
fd_fdstat_set_flags ii i
fd_fdstat_set_rights ill i
fd_filestat_get ii i
fd_filestat_set_size il i
fd_filestat_set_times illi i
fd_pread iiili i
fd_prestat_dir_name iii i
fd_prestat_get ii i
fd_pwrite iiili i
fd_read iiii i
fd_readdir iiili i
fd_renumber ii i
fd_seek ilii i
fd_sync i i
fd_tell ii i
fd_write iiii i
path_create_directory iii i
path_filestat_get iiiii i
path_filestat_set_times iiiilli i
path_link iiiiiii i
path_open iiiiillii i
path_readlink iiiiii i
path_remove_directory iii i
path_rename iiiiii i
path_symlink iiiii i
path_unlink_file iii i
poll_oneoff iiii i
proc_exit i -
proc_raise i i
random_get ii i
sched_yield - i
sock_accept iii i
sock_recv iiiiii i
sock_send iiiii i
sock_shutdown ii i";

const OPTWASM: &str = "
input_len - l
input_read lii i
output_write ii -
fail iii -
panic iiiiii -
log iiiii -
progress dd i
incumbent ddii -
checkpoint ii -
resume_len - l
resume_read lii i
blob_open ii i
blob_len i l
blob_read ilii i
fuel_left - l
seed i -";

pub struct Import {
    pub module: &'static str,
    pub name: &'static str,
    pub params: Vec<&'static str>,
    pub results: Vec<&'static str>,
}

/// All of them.
pub fn all() -> Vec<Import> {
    let types = |letters: &'static str| {
        let letters = letters.chars().filter(|letter| *letter != '-');
        letters
            .map(|letter| match letter {
                'i' => "i32",
                'l' => "i64",
                'd' => "f64",
                other => panic!("{other}"),
            })
            .collect()
    };
    let parse = |module, text: &'static str| {
        text.lines().skip(1).map(move |line| {
            let mut words = line.split(' ');
            let mut next = || words.next().expect("three words a line");
            Import {
                module,
                name: next(),
                params: types(next()),
                results: types(next()),
            }
        })
    };
    parse("wasi_snapshot_preview1", WASI)
        .chain(parse("optwasm_v1", OPTWASM))
        .collect()
}

#[allow(dead_code)] // Each test binary uses its own part.
impl Import {
    /// The import in WebAssembly text, as `$f`.
    pub fn text(&self) -> String {
        format!(
            r#"(import "{}" "{}" (func $f (param {}) (result {})))"#,
            self.module,
            self.name,
            self.params.join(" "),
            self.results.join(" ")
        )
    }

    /// A call of it with `arguments`, one for each parameter.
    pub fn call(&self, arguments: &[i64]) -> String {
        let pushed: String = self
            .params
            .iter()
            .zip(arguments)
            .map(|(ty, value)| format!("({ty}.const {value}) "))
            .collect();
        format!("{pushed} call $f {}", "drop ".repeat(self.results.len()))
    }

    /// Whether a call of it ends the job.
    pub fn ends_the_job(&self) -> bool {
        matches!(self.name, "proc_exit" | "fail" | "panic")
    }
}
