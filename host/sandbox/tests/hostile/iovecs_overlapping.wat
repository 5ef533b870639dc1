;; Reads input over the very list that says where to read it to.
;; expect: ok
;; input: 16
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\00\00\00\08\00\00\00\00\00\00\00\08\00\00\00\04\00\00\00\ff\7f\00\00")
  (func (export "_start")
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 3) (i32.const 0)) (then unreachable))
    (if (i32.ne (i32.load (i32.const 0)) (i32.const 16)) (then unreachable))))
