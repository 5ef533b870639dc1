;; Imports the same function twice, once unused.
;; expect: ok
(module
  (import "optwasm_v1" "output_write" (func $a (param i32 i32)))
  (import "optwasm_v1" "output_write" (func $b (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $b (i32.const 0) (i32.const 1))))
