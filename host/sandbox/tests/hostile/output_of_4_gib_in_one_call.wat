;; Lengths that add up to more than a call can answer.
;; expect: ok
;; fuel: 10000000000
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\00\00\00\00\ff\ff\ff\ff\00\00\00\00\ff\ff\ff\ff")
  (func (export "_start")
    (if (i32.ne (call $write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 16)) (i32.const 28))
      (then unreachable))))
