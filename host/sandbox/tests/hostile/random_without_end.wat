;; Keeps the host busy with randomness.
;; expect: out-of-fuel
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 256)
  (func (export "_start") (loop $l
    (drop (call $random (i32.const 0) (i32.const 16777216))) (br $l))))
