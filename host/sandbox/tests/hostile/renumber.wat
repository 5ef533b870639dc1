;; Moves descriptors over each other, itself and nothing.
;; expect: ok
(module
  (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $is (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
  (func (export "_start")
    (call $is (call $renumber (i32.const 1) (i32.const 1)) (i32.const 0))
    (call $is (call $renumber (i32.const 1) (i32.const 5)) (i32.const 8))
    (call $is (call $renumber (i32.const -1) (i32.const 1)) (i32.const 8))
    (call $is (call $renumber (i32.const 1) (i32.const 0)) (i32.const 0))
    (call $is (call $renumber (i32.const 1) (i32.const 0)) (i32.const 8))
    (call $is (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)) (i32.const 8))
    (call $is (call $write (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)) (i32.const 0))
    (call $is (call $close (i32.const 0)) (i32.const 0))
    (call $is (call $close (i32.const 0)) (i32.const 8))
    (call $is (call $close (i32.const -1)) (i32.const 8))))
