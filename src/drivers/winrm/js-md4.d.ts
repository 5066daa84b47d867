declare module 'js-md4' {
  interface Md4 {
    (message: Uint8Array): string;
    arrayBuffer(message: Uint8Array): ArrayBuffer;
  }
  const md4: Md4;
  export default md4;
}
