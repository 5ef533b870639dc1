;; Tries to open everything, from every descriptor.
;; expect: ok
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_readlink" (func $readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "/etc/passwd") (data (i32.const 100) "../../..")
  (func $bad (param i32) (if (i32.ne (local.get 0) (i32.const 8)) (then unreachable)))
  (func (export "_start") (local $fd i32)
    (loop $l
      (call $bad (call $open (local.get $fd) (i32.const 1) (i32.const 0) (i32.const 11) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 200)))
      (call $bad (call $open (local.get $fd) (i32.const 0) (i32.const 100) (i32.const 8) (i32.const 15) (i64.const 0) (i64.const 0) (i32.const 31) (i32.const 200)))
      (call $bad (call $readlink (local.get $fd) (i32.const 0) (i32.const 11) (i32.const 300) (i32.const 100) (i32.const 200)))
      (call $bad (call $symlink (i32.const 0) (i32.const 11) (local.get $fd) (i32.const 0) (i32.const 11)))
      (call $bad (call $prestat (local.get $fd) (i32.const 200)))
      (call $bad (call $accept (local.get $fd) (i32.const 0) (i32.const 200)))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $fd) (i32.const 20))))
    (call $bad (call $open (i32.const -1) (i32.const 1) (i32.const 0) (i32.const 11) (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 200)))))
