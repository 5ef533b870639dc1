;; More pieces than a call takes.
;; expect: ok
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (i32.ne (call $write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8)) (i32.const 28))
      (then unreachable))
    (if (i32.ne (call $read (i32.const 0) (i32.const 0) (i32.const 1025) (i32.const 8)) (i32.const 28))
      (then unreachable))))
