;; Recursion that calls the host at every depth, to its very end.
;; expect: stack-overflow
;; fuel: 1000000000
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $f (export "_start")
    (drop (call $random (i32.const 0) (i32.const 8)))
    (call $f) (i32.store (i32.const 0) (i32.const 1))))
